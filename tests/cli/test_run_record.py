from lightning_ltts.cli.run_record import flat_values


def test_flat_values() -> None:
    config = {
        "class_path": "package.module.Model",
        "init_args": {
            "lr": 0.1,
            "start": {"pretrained": None, "backbone": {"n_embd": 8}},
            "sampler": {"class_path": "package.Noise", "init_args": {"std": 0.5}},
            "stages": [1, 2],
        },
    }
    assert flat_values(config, "model") == {
        "model": "Model",
        "model.lr": 0.1,
        "model.start.backbone.n_embd": 8,
        "model.sampler": "Noise",
        "model.sampler.std": 0.5,
    }
    assert flat_values(None, "data") == {}
