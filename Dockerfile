# The package in a container, for a CPU: `data/` and `output/` are in /work, which is to be mounted.
# Loading workers hand images over in shared memory, of which a container has little: docker run --shm-size 1g …
FROM python:3.12-slim
COPY . /tmp/mocoop
RUN pip install --no-cache-dir /tmp/mocoop && rm -rf /tmp/mocoop
WORKDIR /work
ENTRYPOINT ["mocoop"]
