"""Django's entry of the application `notes`."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    name = "notes"
