"""Uploads a file by tuspy, in parts: URL FILE. Prints where it is."""

import sys

from tusclient import client

address, path = sys.argv[1:]
uploader = client.TusClient(address).uploader(path, chunk_size=300_000, upload_checksum=True, metadata={"filename": "by tuspy.bin"})
uploader.upload_chunk()
# Another uploader goes on with what this one began.
place = uploader.url
again = client.TusClient(address).uploader(path, chunk_size=300_000, upload_checksum=True, url=place)
if again.offset != 300_000:
    sys.exit(f"it goes on at {again.offset}")
again.upload()
print(place)
