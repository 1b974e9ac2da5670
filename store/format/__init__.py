"""Format versions 1 and 2: everything that another language would have to re-implement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.format.canonical_json import json_digest as json_digest
    from r2t.store.format.columns import (
        parse_metadata as parse_metadata,
        read_columns as read_columns,
        read_metadata as read_metadata,
    )
    from r2t.store.format.embeddings import (
        EMBEDDING as EMBEDDING,
        EMBEDDING_DIGEST as EMBEDDING_DIGEST,
        EMBEDDING_FROM as EMBEDDING_FROM,
        embedding_digest as embedding_digest,
        embedding_files as embedding_files,
        read_embedding as read_embedding,
        write_embedding as write_embedding,
    )
    from r2t.store.format.header import StoreHeader as StoreHeader
    from r2t.store.format.header_proof import (
        ProvenHeader as ProvenHeader,
        is_whole_or_newer as is_whole_or_newer,
        made_with as made_with,
        made_with_in as made_with_in,
        prove_header as prove_header,
        unproven_header as unproven_header,
    )
    from r2t.store.format.layout import (
        MAX_SHARD_FRAMES as MAX_SHARD_FRAMES,
        MAX_WHOLE_BYTES as MAX_WHOLE_BYTES,
        VIDEO_DIMENSIONS as VIDEO_DIMENSIONS,
        ColumnsDigest as ColumnsDigest,
        FeatureDigest as FeatureDigest,
        TokenLayout as TokenLayout,
        columns_digest as columns_digest,
        has_only_finite as has_only_finite,
        node_name as node_name,
        split_into_shards as split_into_shards,
    )
    from r2t.store.format.manifest import (
        PartNames as PartNames,
        rewrite_header as rewrite_header,
    )
    from r2t.store.format.nodes import (
        ON_DISK as ON_DISK,
        ZARR_ERRORS as ZARR_ERRORS,
        FolderStore as FolderStore,
        attributes_of as attributes_of,
        create_array as create_array,
        damage as damage,
        find_node as find_node,
        open_group as open_group,
        require_array as require_array,
        require_group as require_group,
        storage_errors as storage_errors,
    )
    from r2t.store.format.part_files import Streamed as Streamed, write_part as write_part
    from r2t.store.format.part_writer import (
        QUERIES_PER_PART as QUERIES_PER_PART,
        PartWriter as PartWriter,
        following_part_name as following_part_name,
    )
    from r2t.store.format.parts import (
        KINDS as KINDS,
        WIDE as WIDE,
        Columns as Columns,
        PartKind as PartKind,
        array_names as array_names,
        group_names as group_names,
        parse_header as parse_header,
        part_place as part_place,
        read_headers as read_headers,
    )
    from r2t.store.format.publisher import Publisher as Publisher
    from r2t.store.format.query_rows import (
        ANNOTATION_COLUMNS as ANNOTATION_COLUMNS,
        annotation_at as annotation_at,
        query_columns as query_columns,
        query_features_at as query_features_at,
        query_row_digest as query_row_digest,
        read_query_rows as read_query_rows,
        require_fitting as require_fitting,
    )
    from r2t.store.format.shards import (
        ByteRange as ByteRange,
        ShardRange as ShardRange,
        find_shard_ranges as find_shard_ranges,
        locate_tokens as locate_tokens,
        parse_index as parse_index,
        read_blocks as read_blocks,
        read_ranges as read_ranges,
        require_layout as require_layout,
        shard_key as shard_key,
        write_shard as write_shard,
    )
    from r2t.store.format.stored_part import (
        Part as Part,
        load_columns as load_columns,
        read_parts as read_parts,
    )
    from r2t.store.format.tables import PartReader as PartReader
    from r2t.store.format.video_rows import (
        INDEX_COLUMNS as INDEX_COLUMNS,
        VideoRow as VideoRow,
        errors_from_attributes as errors_from_attributes,
        is_sealed_video as is_sealed_video,
        require_sealed as require_sealed,
        rows_of_columns as rows_of_columns,
        seal_attributes as seal_attributes,
        source_from_attributes as source_from_attributes,
        video_columns as video_columns,
    )
    from r2t.store.format.zip_manifest import (
        ZIP_MANIFEST as ZIP_MANIFEST,
        IndexZip as IndexZip,
        VideosZip as VideosZip,
        ZipManifest as ZipManifest,
        ZipRecord as ZipRecord,
        unfinished_from_json as unfinished_from_json,
        unfinished_to_json as unfinished_to_json,
    )
else:
    __getattr__ = lazy_exports(__name__)
