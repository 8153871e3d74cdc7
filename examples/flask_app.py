"""A Flask application: a page, a form, JSON, a streamed response, an upload, a download.

From this directory: `starman-uv flask_app:app --workers 8`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

from flask import Flask, Response, jsonify, render_template_string, request, send_file
from werkzeug.wrappers import Response as BaseResponse

app = Flask(__name__)

PAGE = """<!doctype html>
<title>Flask on starman</title>
<h1>Hello{% if name %}, {{ name }}{% endif %}</h1>
<form method="post" action="/form"><input name="name" placeholder="Your name"> <button>Greet</button></form>
<form method="post" action="/upload" enctype="multipart/form-data"><input type="file" name="file"> <button>Upload</button></form>
<p><a href="/stream">a streamed response</a> · <a href="/download">a download</a></p>
"""


@app.get("/")
def index() -> str:
    """The page, with the forms."""
    return render_template_string(PAGE)


@app.post("/form")
def form() -> str:
    """Greet by the name in the form."""
    return render_template_string(PAGE, name=request.form["name"])


@app.post("/json")
def add() -> Response:
    """Add numbers: `{"numbers": [1, 2]}` gives `{"sum": 3}`."""
    return jsonify(sum=sum(request.get_json()["numbers"]))


@app.get("/stream")
def stream() -> Response:
    """Lines that are made while they are sent: there is no Content-Length."""
    count = request.args.get("lines", 100, int)

    def lines() -> Iterator[str]:
        for number in range(count):
            yield f"line {number}\n"

    return Response(lines(), mimetype="text/plain")


@app.post("/upload")
def upload() -> Response:
    """Describe the upload: the file of the form, or the body itself."""
    stream = request.files["file"].stream if "file" in request.files else request.stream
    md5, length = hashlib.md5(), 0
    while block := stream.read(65536):
        md5.update(block)
        length += len(block)
    return jsonify(length=length, md5=md5.hexdigest())


@app.get("/download")
def download() -> BaseResponse:
    """This very file, as an attachment; `/download?kind=memory` sends 1,000,000 bytes that are in no file."""
    if request.args.get("kind") == "memory":
        return send_file(io.BytesIO(b"0123456789" * 100_000), download_name="numbers.txt")
    return send_file(__file__, as_attachment=True, download_name="flask_app.py")
