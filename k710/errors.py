"""The errors of k710. The library raises them; only the command line turns them into messages and exit codes."""


class K710Error(Exception):
    """An error that the user can fix. Its text names the file, the line, the value and what to do."""

    exit_code = 1


class UsageError(K710Error, ValueError):
    """An option or argument that does not make sense: an unknown source, two options that cannot be combined."""

    exit_code = 2


class ListError(K710Error):
    """An annotation list that is missing, damaged, or holds bad rows."""


class LabelError(K710Error):
    """A class name that is in no label set, or a synonym file that contradicts itself."""


class ManifestError(K710Error):
    """A folder that is not a manifest, or a manifest that is damaged or must not be overwritten."""


class RecipeError(K710Error):
    """A recipe with an unknown key or a value of the wrong kind."""


class DownloadError(K710Error):
    """An address that could not be read after all retries."""


class CheckpointError(K710Error):
    """A checkpoint that cannot be read, does not match its description, or must not be written."""


class StoreError(K710Error):
    """A store that is damaged, was made with other settings, or is on a full disk."""


class FetchError(K710Error):
    """A fetch that could not continue: a missing origin, an archive that cannot be read, a full disk."""


class EngineError(K710Error):
    """Machines that cannot do the work: no cluster, no shared folders, or all machines gone."""


class MachineError(K710Error):
    """A machine that lacks something that k710 needs."""


class LoadError(K710Error):
    """A clip that cannot be read or decoded, or a loader that cannot continue."""


class TrainError(K710Error):
    """A training or an evaluation that cannot start or continue: no clips, a full disk, a loss that is not finite."""


class RemoteError(K710Error):
    """A URL that does not answer, refuses, or has no such bucket. Not an OSError, which means a disk of this
    machine."""


class BusyError(K710Error):
    """A folder or a file that another process is writing."""


class ReportError(K710Error):
    """A report that cannot be made: a missing folder, runs that cannot be read."""
