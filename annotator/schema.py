"""How the API describes itself."""

from drf_spectacular.openapi import AutoSchema


class NestedSchema(AutoSchema):
    """`class RunList(APIView): class Input(Serializer)` becomes the component RunListInput, so names never collide."""

    def get_serializer_name(self, serializer: object, direction: str) -> str:
        return type(serializer).__qualname__.rpartition("<locals>.")[2].replace(".", "")
