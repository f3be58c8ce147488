"""Models to and from the Hugging Face Hub, by the methods that its users know."""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from huggingface_hub import HfApi
from torch import nn

from lightning_ltts.errors import CheckpointError, reason_of, shorten
from lightning_ltts.models.weights import FOLDER_ENTRY


class HubModel(nn.Module):
    """A model that is saved as a folder, loaded from one, and pushed to the Hub.

    The folders are those of `save_folder`, with a model card.
    """

    kind: ClassVar[Literal["reasoner", "latent_rm"]]

    def save_pretrained(self, save_directory: str | Path) -> Path:
        """Writes the model as a new folder, from which it loads bit by bit the same.

        Returns the folder.

        Raises:
            CheckpointError: the folder holds something.
        """
        from lightning_ltts.models.folders import save_folder  # which imports the models

        return save_folder(self, save_directory)  # type: ignore[arg-type]  # the two kinds are it

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """The model of a folder, a checkpoint or a Hub repository, in evaluation mode.

        Args:
            pretrained_model_name_or_path: what `load_reasoner` and `load_latent_rm` take as path.
            revision: commit, branch or tag of a Hub repository.
            dtype: data type of the weights; by default the one they are stored in.
            options: others of `load_reasoner`, for instance num_thoughts=12.

        Raises:
            CheckpointError: something is missing, damaged, unknown, or of another kind.
            ConfigError: the specification does not fit together.
        """
        from lightning_ltts.models import checkpoints  # which imports the models

        load: Any = getattr(checkpoints, f"load_{cls.kind}")
        name = str(pretrained_model_name_or_path)
        source = name if revision is None else f"{name}@{revision}"
        model: Self = load(source, dtype=dtype, **options)
        return model

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Writes the model as a folder and uploads that; returns its address.

        Args:
            repo_id: the repository, owner/name, which is made where it does not exist.
            options: those of `push_folder`.

        Raises:
            CheckpointError: it could not be uploaded.
        """
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary) / repo_id.rpartition("/")[2])
            return push_folder(folder, repo_id, **options)


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    commit_message: str = "Upload a model of lightning_ltts",
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    create_pr: bool = False,
) -> str:
    """Uploads a model's folder to the Hugging Face Hub; returns its address there.

    Args:
        folder: one that `save_folder` wrote.
        repo_id: the repository, owner/name, which is made where it does not exist.
        commit_message: of the one commit.
        private: whether a repository that is made is private; by default as the owner has set.
        revision: the branch; by default main.
        token: of the user; by default the one of `hf auth login` or HF_TOKEN.
        create_pr: whether to propose the commit instead of making it.

    Raises:
        CheckpointError: the folder is no model's, or could not be uploaded.
    """
    folder = Path(folder)
    if not (folder / FOLDER_ENTRY).is_file():
        raise CheckpointError(
            f"{folder} is not the folder of a model ({FOLDER_ENTRY} is missing); write one with "
            "'ltts export CHECKPOINT FOLDER'"
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise CheckpointError(
            f"{shorten(repo_id)} is not the name of a repository; give owner/name, for instance "
            f"me/{folder.absolute().name}"
        )
    api = HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            commit_message=commit_message,
            revision=revision,
            create_pr=create_pr,
        )
    except Exception as error:  # no network, no login, no right to write there
        raise CheckpointError(
            f"{folder} could not be pushed to {repo_id} ({reason_of(error, 150)}); log in with "
            "'hf auth login' or set HF_TOKEN, and check the name"
        ) from None
    return commit.pr_url or f"{api.endpoint}/{repo_id}"
