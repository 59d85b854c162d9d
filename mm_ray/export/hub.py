"""An export folder as a model repository of the Hugging Face Hub, through `huggingface_hub` (extra `mm-ray[hub]`)."""

import re
from pathlib import Path
from typing import Any

from mm_ray.errors import EnvironmentFailure, bad_value, in_one_line
from mm_ray.export.folder import FILES

MESSAGE = "Export of mm_ray"


def check_push(repo: str) -> None:
    """Find out, before anything is computed, whether an export could be pushed; the Hub is not asked.

    Raises:
        UserError: The name is not OWNER/NAME, `huggingface_hub` is not installed, or there is no token.

    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise bad_value("push", repo, "must be OWNER/NAME, such as ann/dog-barks")
    hub = _import_hub(repo)
    try:
        hub.utils.validate_repo_id(repo)
    except hub.errors.HFValidationError as error:
        raise bad_value("push", repo, in_one_line(error)) from error
    if hub.get_token() is None:
        raise bad_value("push", repo, "there is no token for the Hub; run hf auth login, or set HF_TOKEN")


def push(folder: Path, repo: str, is_public: bool) -> str:
    """Upload an export, and nothing else that lies in its folder; the repository is made if there is none. Returns its address.

    Args:
        folder: What `write_export` wrote.
        repo: OWNER/NAME.
        is_public: Who can read a new repository: everybody, or the owner only.

    Raises:
        UserError: The Hub refuses it, or the repository is there and public without `is_public`.
        EnvironmentFailure: The Hub cannot be reached.

    """
    hub = _import_hub(repo)
    api = hub.HfApi(library_name="mm_ray")
    try:
        url = str(api.create_repo(repo, private=not is_public, exist_ok=True))
        if not is_public and api.repo_info(repo).private is False:
            raise bad_value("push", repo, "is there and public; add --public if everybody may read the student")
        api.upload_folder(repo_id=repo, folder_path=folder, allow_patterns=list(FILES), commit_message=MESSAGE)
    except hub.errors.HfHubHTTPError as error:
        if error.response.status_code < 500:
            remedy = "check the name, and that the token may write there"
            raise bad_value("push", repo, f"the Hub refuses it ({in_one_line(error)}); {remedy}") from error
        raise EnvironmentFailure(f"--push {repo}: the Hub fails ({in_one_line(error)}); try again later") from error
    except (hub.errors.HTTPError, OSError, RuntimeError) as error:
        raise EnvironmentFailure(f"--push {repo}: the Hub cannot be reached ({in_one_line(error)}); try again later") from error
    return url


def _import_hub(repo: str) -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        remedy = f"needs huggingface_hub; pip install 'mm-ray[hub]' ({in_one_line(error)})"
        raise bad_value("push", repo, remedy) from error
    return huggingface_hub
