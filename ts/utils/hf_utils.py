"""Models of the Hugging Face hub."""


def download_model(model_name, model_path="model", revision="main", use_auth_token=None):
    """Fetch the files of a model and return their folder."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError("this needs the package huggingface_hub: pip install huggingface_hub") from error

    ignored = ["*.msgpack", "*.h5", "*.ot"]
    return snapshot_download(
        repo_id=model_name,
        revision=revision,
        cache_dir=model_path,
        token=use_auth_token,
        ignore_patterns=ignored,
    )
