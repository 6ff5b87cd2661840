# The dashboard alone, without torch. From the repository root:
#   docker build -f docker/dashboard.Dockerfile -t seqsetvae-dashboard .
#   docker run --rm -p 127.0.0.1:8501:8501 -v runs:/runs --read-only --tmpfs /tmp seqsetvae-dashboard
# It prints an address with a token that it made up; open it with 127.0.0.1 in place of the container's name. What it offers
# to start (training, UMAP) needs the backend: copy the command and run it there.
FROM python:3.11-slim-bookworm

# Whatever is written at run time goes to /tmp or /runs: the rest may be read-only.
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /app
COPY docker/dashboard-requirements.txt ./
RUN pip install --no-cache-dir -r dashboard-requirements.txt
COPY .streamlit/ .streamlit/
COPY shared/ shared/
COPY dashboard/ dashboard/

# A named volume takes over this owner, so that the unprivileged user may write.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app \
  && mkdir /runs \
  && chown app:app /runs
USER 10001:10001
VOLUME ["/runs"]
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
# All addresses of the container, so that the port can be published; whoever reaches it needs the token.
ENTRYPOINT ["python", "-m", "dashboard", "--runs", "/runs", "--host", "0.0.0.0", "--port", "8501"]
CMD ["--auth", "token"]
