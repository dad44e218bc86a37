"""How Alembic runs the steps: on the connection that `store.Store` hands it, in one transaction."""

from alembic import context

from sat_orchestrator.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
