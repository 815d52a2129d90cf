"""Paths of reward models and checkpoints."""

from django.urls import URLPattern, path

from rmeval.views import exports, imports, reward_models, score_exports, score_imports

reward_model_urls: list[URLPattern] = [
    path("projects/<uuid:uid>/reward-models/", reward_models.reward_model_list_view, name="reward-model-list"),
    path("projects/<uuid:uid>/reward-models/new/", reward_models.reward_model_create_view, name="reward-model-create"),
    path("projects/<uuid:uid>/reward-models/import/", imports.import_view, name="reward-model-import"),
    path("reward-models/<uuid:uid>/", reward_models.reward_model_detail, name="reward-model-detail"),
    path("reward-models/<uuid:uid>/train/", reward_models.reward_model_train_view, name="reward-model-train"),
    path("reward-models/<uuid:uid>/evaluate/", reward_models.reward_model_evaluate_view, name="reward-model-evaluate"),
    path("checkpoints/<uuid:uid>/export/", exports.checkpoint_export_view, name="checkpoint-export"),
    path("checkpoints/<uuid:uid>/scores/given/", score_exports.scores_given_view, name="scores-given"),
    path("checkpoints/<uuid:uid>/scores/", score_imports.scores_import_view, name="scores-import"),
    path(
        "checkpoints/<uuid:uid>/scores/responses/<uuid:dataset_uid>/",
        score_imports.responses_to_score_view,
        name="responses-to-score",
    ),
    path("checkpoints/<uuid:uid>/", reward_models.checkpoint_files_view, name="checkpoint-files"),
    path(
        "checkpoints/<uuid:uid>/files/<path:name>", reward_models.checkpoint_download_view, name="checkpoint-download"
    ),
]
