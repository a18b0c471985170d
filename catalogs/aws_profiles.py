"""Keys that users keep in profiles of the AWS tools: whether they are there. Their values are left to GDAL."""

import configparser
import os
from pathlib import Path

AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Environment variables that a profile stands for."""


def profile_has_keys() -> bool:
    """Whether the environment names an AWS profile and the profile has both keys.

    The profile is that of AWS_PROFILE, or AWS_DEFAULT_PROFILE, in ~/.aws/credentials or the file that
    AWS_SHARED_CREDENTIALS_FILE names, as GDAL has it. One that is not named does not count, although GDAL would take
    the default one: the keys in it are as likely another service's.
    """
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    if not name:
        return False
    file = Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    profiles = configparser.RawConfigParser(strict=False)
    try:
        profiles.read_string(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return False
    return all(profiles.get(name, key.lower(), fallback="").strip() for key in AWS_KEYS)
