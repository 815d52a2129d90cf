"""Keyset pages: cheap at any depth, no totals."""

from typing import Any

from rest_framework.pagination import CursorPagination


class PkCursorPagination(CursorPagination):
    ordering = "-pk"
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {
            "type": "string",
            "nullable": True,
            "format": "uri",
            "example": "https://steelyard.example/api/v1/projects/?cursor=cD00",
        }
        return {
            "type": "object",
            "required": ["results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }
