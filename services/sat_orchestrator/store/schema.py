"""The database's tables, as the newest migration leaves them. A change here needs a migration
beside it."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, Integer, MetaData, String, Table, Text

metadata = MetaData()

devices = Table(
    "device",
    metadata,
    Column("host", String(64), primary_key=True),
    Column("driver", String(128), primary_key=True),
    Column("device", String(128), primary_key=True),
    Column("hardware_id", Text, nullable=True),
    Column("desired", JSON(none_as_null=True), nullable=True),
    Column("streams_seen", JSON, nullable=False),
    Column("observed", String(16), nullable=False),
    Column("rev", Integer, nullable=False),
    Column("updated_at", Float, nullable=False),
)

leadership = Table(
    "leadership",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("client", String(64), nullable=False),
    Column("operation", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("message", Text, nullable=False),
)
