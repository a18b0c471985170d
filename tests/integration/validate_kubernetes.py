"""Validate Kubernetes resources against the official schemas; run with the Python of the validator's environment.

    python validate_kubernetes.py DEFINITIONS FILE...

Prints "KIND/NAME: ok" or what is wrong for each resource of the files. Unknown fields are wrong, at any depth.
"""

import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml


def definitions(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Schemas of the custom resources under a folder, by apiVersion and kind."""
    schemas = {}
    for path in folder.rglob("crds/*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
            schemas[key] = strict(version["schema"]["openAPIV3Schema"])
    return schemas


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with unknown fields refused, which the API server would drop without a word."""
    schema = dict(schema)
    # In these two places Kubernetes' dialect of OpenAPI differs from JSON Schema.
    if schema.pop("x-kubernetes-int-or-string", False):
        schema["type"] = ["integer", "string"]
    if schema.pop("nullable", False):
        schema["type"] = [schema["type"], "null"]
    if "properties" in schema:
        schema["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            schema[inner] = strict(schema[inner])
    return schema


def problem(resource: dict[str, Any], custom: dict[tuple[str, str], dict[str, Any]]) -> str:
    """What is wrong with a resource; empty where nothing is."""
    schema = custom.get((resource.get("apiVersion", ""), resource.get("kind", "")))
    try:
        if schema is None:
            kubernetes_validate.validate(resource, "1.37", strict=True)
        else:
            known = {"apiVersion": {}, "kind": {}, "metadata": {"type": "object", "required": ["name"]}}
            schema = {**schema, "properties": {**schema["properties"], **known}, "required": ["spec"]}
            jsonschema.validate(resource, schema)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
        return f"{'.'.join(map(str, error.path))}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return f"no schema: {error}"
    return ""


def main(folder: str, *files: str) -> int:
    custom = definitions(Path(folder))
    wrong = 0
    for file in files:
        for resource in yaml.safe_load_all(Path(file).read_text()):
            said = problem(resource, custom)
            wrong += bool(said)
            print(f"{resource.get('kind')}/{resource.get('metadata', {}).get('name')}: {said or 'ok'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
