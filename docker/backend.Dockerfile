# Preparing data and training. From the repository root:
#   docker build -f docker/backend.Dockerfile -t seqsetvae-backend .
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY shared/ shared/
COPY backend/ backend/

# Named volumes take over these owners, so that the unprivileged user may write.
RUN useradd --uid 1000 --create-home app && mkdir /data /runs && chown app:app /data /runs
USER app
VOLUME ["/data", "/runs"]
ENTRYPOINT ["python", "-m", "backend"]
CMD ["--help"]
