"""Where a store's bytes are: on this machine, in a zip, behind a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r2t.store.lazy import lazy_exports

if TYPE_CHECKING:
    from r2t.store.sources.bucket import Bucket as Bucket, StoredObject as StoredObject
    from r2t.store.sources.cache import ByteCache as ByteCache
    from r2t.store.sources.connection import connect as connect, is_bucket as is_bucket
    from r2t.store.sources.hub import (
        HubFile as HubFile,
        HubListing as HubListing,
        HubPlace as HubPlace,
        explained_hub_error as explained_hub_error,
        hub_api as hub_api,
        hub_listing as hub_listing,
        is_hub_url as is_hub_url,
    )
    from r2t.store.sources.moving import FileFacts as FileFacts, move_file as move_file
    from r2t.store.sources.remote_tokens import RemoteShards as RemoteShards
    from r2t.store.sources.root import (
        StoreRoot as StoreRoot,
        open_root as open_root,
        read_header_of as read_header_of,
    )
    from r2t.store.sources.source_store import SourceStore as SourceStore
    from r2t.store.sources.sources import MAX_READ_BYTES as MAX_READ_BYTES
    from r2t.store.sources.urls import (
        escaped_url as escaped_url,
        is_url as is_url,
        last_name as last_name,
        without_credentials as without_credentials,
        without_places as without_places,
    )
    from r2t.store.sources.zip_set import ZipSet as ZipSet, open_zip_set as open_zip_set
    from r2t.store.sources.zipped import ZippedFolder as ZippedFolder
else:
    __getattr__ = lazy_exports(__name__)
