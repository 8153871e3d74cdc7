"""The project's paths: the notes at the root, Django's admin beside them."""

from django.contrib import admin
from django.urls import path
from notes import views

urlpatterns = [
    path("", views.index, name="index"),
    path("add", views.add, name="add"),
    path("export", views.export, name="export"),
    path("admin/", admin.site.urls),
]
