"""What users keep in profiles of the AWS tools: keys, and where they are for."""

import configparser
import os
from pathlib import Path

AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Environment variables that a profile stands for."""


def profile_has_keys() -> bool:
    """Whether the environment names an AWS profile and the profile has both keys; their values are left to GDAL.

    The profile is that of AWS_PROFILE, or AWS_DEFAULT_PROFILE, in ~/.aws/credentials or the file that
    AWS_SHARED_CREDENTIALS_FILE names, as GDAL has it. One that is not named does not count, although GDAL would take
    the default one: the keys in it are as likely another service's.
    """
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    if not name:
        return False
    values = _section("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name)
    return all(values.get(key.lower()) for key in AWS_KEYS)


def profile_values(name: str) -> dict[str, str]:
    """Values of a profile: its keys, and what else ~/.aws/config (AWS_CONFIG_FILE) says of it, such as its region."""
    section = name if name == "default" else f"profile {name}"
    about = _section("AWS_CONFIG_FILE", "~/.aws/config", section)
    return about | _section("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials", name)


def _section(variable: str, default: str, section: str) -> dict[str, str]:
    """Values of one section of the file that a variable names; none where it cannot be read."""
    file = Path(os.environ.get(variable) or default).expanduser()
    profiles = configparser.RawConfigParser(strict=False)
    try:
        profiles.read_string(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return {}
    found = profiles.items(section) if profiles.has_section(section) else []
    return {key: value.strip() for key, value in found if value.strip()}
