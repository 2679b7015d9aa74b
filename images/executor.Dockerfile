# The image of the pool's executors, Tessera's with PyTorch in it:
# `docker build -f images/executor.Dockerfile --build-arg TESSERA=tessera -t tessera-executor images`.
ARG TESSERA=tessera
FROM ${TESSERA}
ARG TORCH=2.15.*
USER root
RUN pip install --no-cache-dir "torch==${TORCH}"
USER 65533:65533
