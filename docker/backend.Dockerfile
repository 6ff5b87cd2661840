# Preparing data and training. From the repository root:
#   docker build -f docker/backend.Dockerfile -t seqsetvae-backend .
# CUDA 13.0 is what the wheels of torch in requirements.txt are built for and bring along; the base adds what the NVIDIA
# container toolkit needs to hand the GPU over. Without a GPU the same image trains on the CPU.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04

# The compiler and the headers are for torch.compile (--compile_model), which builds kernels as it runs.
# hadolint ignore=DL3008
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv \
  && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/venv

# Whatever is written at run time goes to /tmp, /data or /runs: the rest may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib \
  NUMBA_CACHE_DIR=/tmp/numba TRITON_CACHE_DIR=/tmp/triton TORCHINDUCTOR_CACHE_DIR=/tmp/inductor
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY shared/ shared/
COPY backend/ backend/

# Named volumes take over these owners, so that the unprivileged user may write. 1000 is taken in Ubuntu's image.
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin app \
  && mkdir /data /runs \
  && chown app:app /data /runs
USER 10001:10001
VOLUME ["/data", "/runs"]
# A command that ends is no service; the dashboard says when a run has no heartbeat.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "backend"]
CMD ["--help"]
