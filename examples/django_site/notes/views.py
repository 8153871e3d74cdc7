"""The pages: the list with its form, adding a note, and all notes as a streamed file."""

from collections.abc import Iterator

from django import forms
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from notes.models import Note


class NoteForm(forms.ModelForm):
    """One line of text."""

    class Meta:
        model = Note
        fields = ("text",)


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The newest notes and a form for one more."""
    return render(request, "notes/index.html", {"notes": Note.objects.all()[:50], "form": NoteForm()})


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Store a note and go back to the list; a wrong one comes back with the reason."""
    form = NoteForm(request.POST)
    if not form.is_valid():
        return render(request, "notes/index.html", {"notes": Note.objects.all()[:50], "form": form}, status=422)
    form.save()
    return redirect("index")


@require_GET
def export(request: HttpRequest) -> StreamingHttpResponse:
    """Every note on a line of its own, streamed."""

    def lines() -> Iterator[str]:
        for note in Note.objects.iterator():
            yield f"{note.text}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain; charset=utf-8")
