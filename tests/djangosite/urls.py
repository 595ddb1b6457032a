"""Where the views live."""

from django.urls import include, path

from . import views

inner = [path("status", views.status), path("page", views.page), path("Archive", views.Archive.as_view())]
urlpatterns = [
    path("", views.page),
    path("robots.txt", views.page),
    path("apage", views.apage),
    path("stream", views.stream),
    path("astream", views.astream),
    path("status", views.status),
    path("astatus", views.astatus),
    path("archive", views.archive),
    path("aarchive", views.aarchive),
    path("Status", views.Status.as_view()),
    path("Archive", views.Archive.as_view()),
    path("Plain", views.Plain.as_view()),
    path("AsyncPlain", views.AsyncPlain.as_view()),
    path("inner/", include(inner)),
]
