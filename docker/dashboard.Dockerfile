# The dashboard alone, without torch. From the repository root:
#   docker build -f docker/dashboard.Dockerfile -t seqsetvae-dashboard .
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY docker/dashboard-requirements.txt ./
RUN pip install --no-cache-dir -r dashboard-requirements.txt
COPY .streamlit/ .streamlit/
COPY shared/ shared/
COPY dashboard/ dashboard/

RUN useradd --uid 1000 --create-home app && mkdir /runs && chown app:app /runs
USER app
VOLUME ["/runs"]
EXPOSE 8501
HEALTHCHECK --interval=30s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=5)"]
# Inside a container only its own network reaches 0.0.0.0; compose.yaml publishes the port to localhost alone.
CMD ["python", "-m", "dashboard", "--runs", "/runs", "--host", "0.0.0.0", "--port", "8501"]
