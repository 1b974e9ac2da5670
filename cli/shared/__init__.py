"""What the commands have in common: how they are put together, and the options they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.cli.shared.apps import (
        LazyCommand as LazyCommand,
        examples as examples,
        new_app as new_app,
    )
    from r2t.cli.shared.downloads import (
        announce_download as announce_download,
        clip_options as clip_options,
    )
    from r2t.cli.shared.inputs import (
        fields_as_typed as fields_as_typed,
        open_store as open_store,
        passed_over as passed_over,
        read_annotation_file as read_annotation_file,
        read_annotation_options as read_annotation_options,
        read_ids as read_ids,
        read_video_ids as read_video_ids,
        split_option as split_option,
    )
    from r2t.cli.shared.licences import required_licence as required_licence
    from r2t.cli.shared.option_values import (
        as_frame_rate as as_frame_rate,
        as_windows as as_windows,
        one_of as one_of,
        parse_fps as parse_fps,
        parse_rate as parse_rate,
        parse_size as parse_size,
    )
    from r2t.cli.shared.options import (
        DEFAULT_CACHE_BYTES as DEFAULT_CACHE_BYTES,
        Annotations as Annotations,
        AnnotationsBeside as AnnotationsBeside,
        ChangedStore as ChangedStore,
        Copy as Copy,
        Device as Device,
        DiskCache as DiskCache,
        DiskCacheSize as DiskCacheSize,
        Domain as Domain,
        ExportFormat as ExportFormat,
        ExtractPrecision as ExtractPrecision,
        FollowLinks as FollowLinks,
        HubDataset as HubDataset,
        HubModel as HubModel,
        ImportFormat as ImportFormat,
        InitialRun as InitialRun,
        Into as Into,
        Json as Json,
        Licence as Licence,
        MaxHours as MaxHours,
        NewStore as NewStore,
        NumTokens as NumTokens,
        Offline as Offline,
        OptionalCheckpoint as OptionalCheckpoint,
        OptionalPreset as OptionalPreset,
        OptionalQueryBatch as OptionalQueryBatch,
        OptionalSeed as OptionalSeed,
        OptionalSplit as OptionalSplit,
        OptionalZipSize as OptionalZipSize,
        OwnRun as OwnRun,
        PresetOption as PresetOption,
        Private as Private,
        QueryBatch as QueryBatch,
        QuerySplit as QuerySplit,
        Quick as Quick,
        RelevantFile as RelevantFile,
        RunFolderArgument as RunFolderArgument,
        RunFps as RunFps,
        RunModel as RunModel,
        RunOrPredictions as RunOrPredictions,
        RunPretrained as RunPretrained,
        Seed as Seed,
        Store as Store,
        StoreArgument as StoreArgument,
        StoreFolder as StoreFolder,
        Strict as Strict,
        Threads as Threads,
        TopMoments as TopMoments,
        VideoIds as VideoIds,
        Windows as Windows,
    )
    from r2t.cli.shared.predictions import read_predictions as read_predictions
    from r2t.cli.shared.query_notes import (
        missing_names as missing_names,
        note_impossible as note_impossible,
        note_rewordings as note_rewordings,
    )
    from r2t.cli.shared.runs import run_rules as run_rules
    from r2t.cli.shared.score_tables import lay_out_scores as lay_out_scores
    from r2t.cli.shared.times import (
        PartLength as PartLength,
        minutes as minutes,
        parse_length as parse_length,
        span as span,
    )
    from r2t.cli.shared.ui import (
        INTERRUPTED as INTERRUPTED,
        SOME_FAILED as SOME_FAILED,
        ShowDone as ShowDone,
        answers as answers,
        cell as cell,
        handle_errors as handle_errors,
        human_bytes as human_bytes,
        human_seconds as human_seconds,
        json_ready as json_ready,
        note as note,
        print_json as print_json,
        progress_bar as progress_bar,
        say as say,
        write_json as write_json,
    )
else:
    __getattr__ = lazy_exports(__name__)
