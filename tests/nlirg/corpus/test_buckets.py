"""Corpora in a bucket, read from a real S3 server on this machine."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from nlirg.config.corpus import DataConfig
from nlirg.corpus.reader import read_shard
from nlirg.corpus.sources import list_shards
from nlirg.errors import InputError

ROWS = [{"instruction": f"问 {n}", "output": "yes"} for n in range(50)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture(scope="module")
def options() -> Iterator[str]:
    """The query of a URI that leads to a server with the bucket `corpus`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    query = f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "key")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        bucket, _ = pafs.FileSystem.from_uri(f"s3://corpus{query}&allow_bucket_creation=true")
        bucket.create_dir("corpus")
        write(bucket, "a/one.jsonl", LINES)
        write(bucket, "a/two b.jsonl.gz", pa.compress(LINES, "gzip", asbytes=True))
        write(bucket, "a/deep/three.csv", b"instruction,output\n1,yes\n")
        write(bucket, "a/notes.md", b"# notes")
        write(bucket, "half.parquet", b"PAR1 half of it")
        pq.write_table(
            pa.Table.from_pylist(ROWS), "corpus/t.parquet", row_group_size=20, filesystem=bucket
        )
        yield query
    server.stop()


def write(bucket: pafs.FileSystem, key: str, content: bytes) -> None:
    with bucket.open_output_stream(f"corpus/{key}", compression=None) as file:
        file.write(content)


def read(uri: str, **options) -> list:
    source = DataConfig(path=uri)
    shards = list_shards([source], **options)
    return [row for shard in shards for row in read_shard(shard, source)]


def test_a_directory_of_a_bucket_is_read_like_one_on_disk(options) -> None:
    found = read(f"s3://corpus/a/{options}")
    assert [row.value for row in found] == ROWS * 2
    assert {row.source for row in found} == {
        "s3://corpus/a/one.jsonl",
        "s3://corpus/a/two b.jsonl.gz",
    }


@pytest.mark.parametrize(
    ("path", "count"), [("a/one.jsonl", 50), ("a/*.jsonl", 50), ("**/*.csv", 1), ("a/*.gz", 50)]
)
def test_files_and_globs(options, path, count) -> None:
    assert len(read(f"s3://corpus/{path}{options}")) == count


def test_parquet_is_read_by_row_groups(options) -> None:
    uri = f"s3://corpus/t.parquet{options}"
    assert len(list_shards([DataConfig(path=uri)], shard_bytes=1)) == 3
    assert [row.value for row in read(uri, shard_bytes=1)] == ROWS


def test_shards_tell_a_new_version_and_hide_how_they_are_reached(options) -> None:
    uri = f"s3://corpus/changing.jsonl{options}"
    bucket, _ = pafs.FileSystem.from_uri(uri)
    write(bucket, "changing.jsonl", LINES)
    first, again = (list_shards([DataConfig(path=uri)])[0] for _ in range(2))
    write(bucket, "changing.jsonl", LINES[:100])
    assert first == again
    assert first.version
    assert first.version != list_shards([DataConfig(path=uri)])[0].version
    assert first.path == "s3://corpus/changing.jsonl"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3://nobody/a.jsonl", "there is no bucket 'nobody'"),
        ("s3://corpus/none.jsonl", "no such file or directory"),
        ("s3://corpus/none/*.jsonl", "no file matches"),
        ("s3://corpus/a/deep/*.md", "no file matches"),
        ("s3://corpus/a/**.md", "can only be an entire path component"),
        ("s3://corpus/half.parquet", "is no whole Parquet file"),
        ("s3://name:secret@corpus/a.jsonl", "no place for a secret key"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(options, uri, reason) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        list_shards([DataConfig(path=uri + options)])
    assert "\n" not in str(caught.value)
    assert "secret@" not in str(caught.value)
    assert "endpoint_override" not in str(caught.value)


def test_an_option_nobody_knows(options) -> None:
    with pytest.raises(InputError, match="Unexpected query parameter in S3 URI: 'nonsense'"):
        list_shards([DataConfig(path="s3://corpus/a?nonsense=1")])


def test_a_server_that_cannot_be_reached() -> None:
    query = "?endpoint_override=127.0.0.1:1&scheme=http&retry_limit_seconds=0.1"
    with pytest.raises(InputError, match=r"^data gs://corpus/a: cannot read it: .*UNAVAILABLE"):
        list_shards([DataConfig(path=f"gs://anonymous@corpus/a{query}")])


def test_a_file_that_is_gone_is_no_damaged_file(options) -> None:
    source = DataConfig(path=f"s3://corpus/a/one.jsonl{options}")
    (shard,) = list_shards([source])
    gone = shard._replace(path="s3://corpus/a/gone.jsonl")
    with pytest.raises(InputError, match=r"gone\.jsonl: cannot read it: No such file"):
        list(read_shard(gone, source))
    elsewhere = shard._replace(path="s3://nobody/a/gone.jsonl")
    with pytest.raises(InputError, match="cannot read it"):
        list(read_shard(elsewhere, source))
