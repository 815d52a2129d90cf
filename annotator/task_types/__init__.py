"""Kinds of question. One is one module here plus templates/annotator/task_types/<name>.html."""

from annotator.task_types.base import CheckedAnswer, CheckedAnswers, Question, TaskType
from workers.registry import Registry

TASK_TYPES: Registry[TaskType] = Registry("annotator.task_types")

__all__ = ["TASK_TYPES", "CheckedAnswer", "CheckedAnswers", "Question", "TaskType"]
