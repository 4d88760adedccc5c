"""What can go wrong, by kind. The library raises; the command line alone makes messages and exit codes of it."""


class K710Error(Exception):
    """Something that the user can mend; its text names the file, the line, the value and what to do."""

    exit_code = 1


class UsageError(K710Error, ValueError):
    """An option or argument that does not make sense: an unknown source, two options that exclude each other."""

    exit_code = 2


class ListError(K710Error):
    """An annotation list that is missing, damaged, or holds bad rows."""


class LabelError(K710Error):
    """A class name that stands in no label set, or a synonym file that contradicts itself."""


class ManifestError(K710Error):
    """A folder that is no manifest, a damaged one, or one that must not be overwritten."""


class RecipeError(K710Error):
    """A recipe with an unknown key or a value of the wrong kind."""


class DownloadError(K710Error):
    """An address that could not be read, after every retry."""


class CheckpointError(K710Error):
    """A checkpoint that cannot be read, is not what was said of it, or must not be written."""


class StoreError(K710Error):
    """A store that is damaged, made with other settings, or on a disk without room."""


class FetchError(K710Error):
    """A fetch that could not go on: an origin that is not there, an archive that cannot be read, a full disk."""


class EngineError(K710Error):
    """Machines that cannot do the work: no cluster, folders that they do not share, all of them gone."""


class MachineError(K710Error):
    """A machine that lacks what k710 cannot do without."""


class LoadError(K710Error):
    """A clip that cannot be read or decoded, or a loader that cannot go on."""


class TrainError(K710Error):
    """A training or an evaluation that cannot start or go on: no clips, no room, a loss that is no number."""


class RemoteError(K710Error):
    """A URL that does not answer, refuses, or has no such bucket. No OSError: that would be this machine's disk."""


class BusyError(K710Error):
    """A folder or a file that another process is writing at this moment."""


class ReportError(K710Error):
    """A report that cannot be made: a folder that is not there, runs that cannot be read."""
