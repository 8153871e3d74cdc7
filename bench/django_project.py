"""Writes a Django project of ordinary size, with a database: a dozen models, the admin, templates, forms and sessions.

The memory bench serves it from a temporary directory (`bench.tricks`). Its requests run the ORM on SQLite, write
sessions and render templates, so that a worker uses what a worker of a small shop would use.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

APPLICATION = "shop_site.wsgi:application"
SETTINGS_MODULE = "shop_site.settings"
# The pages that the load asks for in turn. /basket/ writes a session.
PATHS = (
    *("/", "/?page=2", "/products/7/", "/products/31/", "/categories/3/", "/suppliers/", "/orders/5/"),
    *("/reviews/new/?product=4", "/api/products/", "/basket/?add=9", "/admin/login/"),
)

_SETTINGS = """
from pathlib import Path

BASE = Path(__file__).resolve().parent.parent
SECRET_KEY = "for the bench only"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "shop_site.urls"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
    "django.contrib.messages", "django.contrib.staticfiles", "django.contrib.humanize", "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware", "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request", "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
DATABASES = {"default": {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": BASE / "shop.sqlite3",
    "CONN_MAX_AGE": 60,
    "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
}}
"""

_MODELS = """
from django.db import models
from django.urls import reverse


class Named(models.Model):
    name = models.CharField(max_length=100, db_index=True)
    slug = models.SlugField(max_length=100)
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self):
        return self.name


class Country(Named):
    code = models.CharField(max_length=2)


class Supplier(Named):
    country = models.ForeignKey(Country, models.PROTECT)
    email = models.EmailField(blank=True)
    site = models.URLField(blank=True)


class Category(Named):
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")


class Tag(Named):
    pass


class Product(Named):
    category = models.ForeignKey(Category, models.PROTECT, related_name="products")
    supplier = models.ForeignKey(Supplier, models.PROTECT, related_name="products")
    tags = models.ManyToManyField(Tag, blank=True)
    description = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    weight = models.FloatField(default=1)
    active = models.BooleanField(default=True)

    def get_absolute_url(self):
        return reverse("product", args=[self.pk])


class Picture(Named):
    product = models.ForeignKey(Product, models.CASCADE, related_name="pictures")
    file = models.FileField(upload_to="pictures")


class Stock(models.Model):
    product = models.OneToOneField(Product, models.CASCADE)
    count = models.PositiveIntegerField(default=0)
    due = models.DateField(null=True, blank=True)


class Customer(Named):
    country = models.ForeignKey(Country, models.PROTECT)
    email = models.EmailField()
    newsletter = models.BooleanField(default=False)


class Address(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE, related_name="addresses")
    street = models.CharField(max_length=200)
    city = models.CharField(max_length=100)
    kind = models.CharField(max_length=1, choices=[("i", "invoice"), ("d", "delivery")])


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.PROTECT, related_name="orders")
    address = models.ForeignKey(Address, models.PROTECT)
    placed = models.DateTimeField(auto_now_add=True)
    state = models.CharField(max_length=1, choices=[("n", "new"), ("p", "paid"), ("s", "sent")], default="n")
    note = models.TextField(blank=True)


class OrderLine(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    count = models.PositiveSmallIntegerField(default=1)
    price = models.DecimalField(max_digits=8, decimal_places=2)


class Review(models.Model):
    product = models.ForeignKey(Product, models.CASCADE, related_name="reviews")
    customer = models.ForeignKey(Customer, models.SET_NULL, null=True, blank=True)
    stars = models.PositiveSmallIntegerField(default=5)
    text = models.TextField()
    placed = models.DateTimeField(auto_now_add=True)


class Voucher(Named):
    percent = models.PositiveSmallIntegerField()
    until = models.DateField(null=True, blank=True)
"""

_ADMIN = """
from django.apps import apps
from django.contrib import admin

for model in apps.get_app_config("shop").get_models():
    fields = [field.name for field in model._meta.fields]
    options = {"list_display": fields[:5], "search_fields": ["name"] if "name" in fields else []}
    admin.site.register(model, type(model.__name__ + "Admin", (admin.ModelAdmin,), options))
"""

_VIEWS = """
from django import forms
from django.core.paginator import Paginator
from django.db.models import Avg, Count, F, Sum
from django.http import JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.generic import DetailView, ListView

from shop.models import Category, Order, Product, Review, Supplier


class ReviewForm(forms.ModelForm):
    class Meta:
        model = Review
        fields = ["product", "stars", "text"]


def index(request):
    products = Product.objects.filter(active=True).select_related("category", "supplier__country").prefetch_related("tags")
    page = Paginator(products, 25).get_page(request.GET.get("page"))
    return render(request, "shop/index.html", {"page": page, "categories": Category.objects.annotate(size=Count("products"))})


def product(request, pk):
    found = get_object_or_404(Product.objects.select_related("category", "supplier", "stock"), pk=pk)
    stars = found.reviews.aggregate(mean=Avg("stars"))["mean"]
    reviews = found.reviews.select_related("customer").order_by("-placed")
    return render(request, "shop/product.html", {"product": found, "stars": stars, "reviews": reviews})


class CategoryView(DetailView):
    model = Category
    template_name = "shop/category.html"


class SupplierList(ListView):
    template_name = "shop/suppliers.html"
    queryset = Supplier.objects.select_related("country").annotate(size=Count("products"))


def order(request, pk):
    found = get_object_or_404(Order.objects.select_related("customer", "address"), pk=pk)
    total = found.lines.aggregate(total=Sum(F("price") * F("count")))["total"]
    return render(request, "shop/order.html", {"order": found, "total": total})


def new_review(request):
    form = ReviewForm(request.POST or None, initial=request.GET.dict())
    return render(request, "shop/review.html", {"form": form})


def basket(request):
    basket = request.session.get("basket", {})
    key = request.GET.get("add", "1")
    basket[key] = basket.get(key, 0) + 1
    request.session["basket"] = basket
    return render(request, "shop/basket.html", {"products": Product.objects.filter(pk__in=basket)})


def api(request):
    rows = Product.objects.values("id", "name", "price", "category__name")[:50]
    return JsonResponse({"products": list(rows)})
"""

_URLS = """
from django.contrib import admin
from django.urls import path

from shop import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", views.index),
    path("products/<int:pk>/", views.product, name="product"),
    path("categories/<int:pk>/", views.CategoryView.as_view(), name="category"),
    path("suppliers/", views.SupplierList.as_view()),
    path("orders/<int:pk>/", views.order),
    path("reviews/new/", views.new_review),
    path("basket/", views.basket),
    path("api/products/", views.api),
]
"""

_WSGI = """
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_site.settings")
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""

_FILL = """
import datetime

import django

django.setup()
from django.core.management import call_command

call_command("makemigrations", "shop", verbosity=0)
call_command("migrate", verbosity=0)
from shop.models import *

countries = [Country.objects.create(name=f"Country {n}", slug=f"country-{n}", code="DE") for n in range(5)]
suppliers = [Supplier.objects.create(name=f"Supplier {n}", slug=f"s-{n}", country=countries[n % 5]) for n in range(10)]
categories = [Category.objects.create(name=f"Category {n}", slug=f"c-{n}") for n in range(8)]
tags = [Tag.objects.create(name=f"Tag {n}", slug=f"t-{n}") for n in range(8)]
customers = [Customer.objects.create(name=f"Customer {n}", slug=f"k-{n}", country=countries[0]) for n in range(10)]
places = [Address.objects.create(customer=customer, street="A street", city="A city", kind="i") for customer in customers]
for n in range(100):
    product = Product.objects.create(
        name=f"Product {n}", slug=f"p-{n}", category=categories[n % 8], supplier=suppliers[n % 10],
        description="A product of the bench. " * 20, price=n + 1,
    )
    product.tags.set([tags[n % 8], tags[(n + 3) % 8]])
    Stock.objects.create(product=product, count=n, due=datetime.date(2026, 12, 1))
    for stars in (3, 5):
        Review.objects.create(product=product, customer=customers[n % 10], stars=stars, text="Good. " * 20)
products = list(Product.objects.all())
for n in range(10):
    order = Order.objects.create(customer=customers[n], address=places[n])
    for each in products[n : n + 5]:
        OrderLine.objects.create(order=order, product=each, price=each.price)
"""

_BASE = """{% load static humanize %}<!doctype html><html><head><title>{% block title %}Shop{% endblock %}</title>
<link rel="stylesheet" href="{% static 'shop.css' %}"></head><body>
<nav>{% if user.is_authenticated %}{{ user }}{% else %}<a href="/admin/login/">Log in</a>{% endif %}</nav>
{% for message in messages %}<p>{{ message }}</p>{% endfor %}{% block content %}{% endblock %}
<footer>{% now "Y-m-d" %}</footer></body></html>"""

_PAGES = {
    "index": """{% for category in categories %}<a href="{% url 'category' category.pk %}">{{ category }}</a>
{{ category.size }} {% endfor %}<ul>{% for product in page %}<li>
<a href="{{ product.get_absolute_url }}">{{ product.name|title }}</a>
{{ product.description|truncatewords:10 }} {{ product.price|floatformat:2 }}
{{ product.supplier.country }}
{% for tag in product.tags.all %}<i>{{ tag }}</i>{% endfor %}</li>{% empty %}nothing{% endfor %}</ul>
{% if page.has_next %}<a href="?page={{ page.next_page_number }}">next</a>{% endif %}""",
    "product": """<h1>{{ product.name }}</h1>{{ product.description|linebreaks }}<p>{{ product.price }}, {{ product.stock.count }}
in stock, due {{ product.stock.due|naturalday }}, {{ stars|floatformat:1 }} stars</p>
{% for review in reviews %}<p>{{ review.customer.name }}: {{ review.text|truncatechars:80 }} {{ review.placed|naturaltime }}</p>
{% endfor %}""",
    "category": """<h1>{{ category }}</h1>{% with count=category.products.count %}<p>{{ count|apnumber }}</p>{% endwith %}
{% for product in category.products.all %}<p class="{% cycle 'odd' 'even' %}">{{ product }}</p>{% endfor %}""",
    "suppliers": """<table>{% for supplier in object_list %}<tr><td>{{ supplier.name|upper }}</td><td>{{ supplier.country }}</td>
<td>{{ supplier.size|intcomma }}</td></tr>{% endfor %}</table>""",
    "order": """<h1>{{ order.pk }} of {{ order.customer }}</h1>
<p>{{ order.get_state_display }} {{ order.placed|date:"r" }}</p>
{% for line in order.lines.all %}<p>{{ line.count }} of {{ line.product.name }} {{ line.price }}</p>{% endfor %}{{ total }}""",
    "review": """<form method="post">{% csrf_token %}{{ form.as_p }}<button>Send</button></form>""",
    "basket": """{% for product in products %}<p>{{ product }} {{ product.price }}</p>{% endfor %}""",
}


def write(directory: Path) -> None:
    """Write the project below `directory`, and fill its database. Needs Django 5.1 or later. Raises
    CalledProcessError."""
    templates = directory / "shop" / "templates" / "shop"
    templates.mkdir(parents=True)
    (directory / "shop" / "migrations").mkdir()
    (directory / "shop_site").mkdir()
    files = {
        "fill.py": _FILL,
        "shop/__init__.py": "",
        "shop/admin.py": _ADMIN,
        "shop/migrations/__init__.py": "",
        "shop/models.py": _MODELS,
        "shop/views.py": _VIEWS,
        "shop_site/__init__.py": "",
        "shop_site/settings.py": _SETTINGS,
        "shop_site/urls.py": _URLS,
        "shop_site/wsgi.py": _WSGI,
    }
    for name, text in files.items():
        (directory / name).write_text(text, "utf-8")
    (templates / "base.html").write_text(_BASE, "utf-8")
    for name, text in _PAGES.items():
        begin = "{% extends 'shop/base.html' %}{% load humanize %}{% block content %}"
        (templates / f"{name}.html").write_text(f"{begin}{text}{{% endblock %}}", "utf-8")
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS_MODULE}
    subprocess.run([sys.executable, "fill.py"], cwd=directory, env=environment, check=True, timeout=120)
