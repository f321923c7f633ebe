"""Modules open, create and remove files through `trainer.files`, which follows no link, or have a reason not to."""

from __future__ import annotations

import ast

from helpers.source import trees

ON_A_PATH = {"read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir", "rmdir", "touch", "symlink_to"}
ON_A_PATH |= {"hardlink_to", "rename", "savefig", "open"}
OF_OS = {"open", "unlink", "remove", "mkdir", "makedirs", "rmdir", "replace", "rename", "symlink", "link", "truncate"}
OF_OTHERS = {
    "shutil.rmtree",
    "shutil.copy",
    "shutil.copyfile",
    "shutil.copytree",
    "shutil.move",
    "np.memmap",
    "np.load",
}
OF_OTHERS |= {
    "torch.load",
    "torch.save",
    "zipfile.ZipFile",
    "json.dump",
    "yaml.dump",
    "OmegaConf.save",
    "OmegaConf.load",
}

SAFE = ("files", "records.contents")  # open folder by folder, without following links
# Why these modules open a file by its path: it is no file of a run, sweep or cache folder, or no link can be followed.
ALLOWED = {
    "commands.init": (
        {"open", "source.read_bytes", "note.write_text", "path.parent.mkdir"},
        "the user's own new files",
    ),
    "components.downloads": ({"path.parent.mkdir"}, "torch's cache of downloads"),
    "config.compose": ({"OmegaConf.load", "path.read_text"}, "the program's own YAML, or the user's"),
    "config.sizes": ({"path.read_text"}, "the same"),
    "config.stored": ({"yaml.dump"}, "text in memory"),
    "data.arrays.containers": ({"archive.open", "zipfile.ZipFile"}, "an open file"),
    "data.arrays.stored": ({"archive.open", "np.memmap", "zipfile.ZipFile"}, "open files"),
    "data.images.cache": (
        {"folder.mkdir", "open", "os.open", "os.replace", "part.unlink", "path.unlink"},
        "the cache folder holds only files, opened with O_NOFOLLOW; the other calls act on names",
    ),
    "data.images.decode": ({"Image.open", "open"}, "the user's images"),
    "data.images.pool": ({"os.open"}, "the cache file, with O_NOFOLLOW"),
    "data.images.serve": ({"os.open"}, "the same"),
    "data.images.rows": ({"os.open", "self.path.unlink"}, "the same"),
    "data.sources": (
        {"files('trainer.data').joinpath('bundled/digits.npz').open", "np.load"},
        "the package's own file",
    ),
    "data.tables.file": ({"open", "zipfile.ZipFile"}, "the user's table"),
    "data.tables.workbook": ({"archive.open", "zipfile.ZipFile"}, "the same, open already"),
    "device": ({"open"}, "/proc/meminfo"),
    "inference.formats": ({"torch.load", "torch.save"}, "bytes in memory"),
    "records.folder": (
        {"day.mkdir", "os.replace", "path.mkdir", "temporary.symlink_to", "temporary.unlink"},
        "new folders and the link `latest` in the user's outputs/",
    ),
    "report.compare_view": ({"figure.savefig"}, "bytes in memory"),
    "report.doctor_view": ({"figure.savefig"}, "the user's --out"),
    "report.explanation": ({"Image.open"}, "bytes in memory"),
    "report.output": ({"open", "os.open"}, "the null device, and open descriptors"),
    "report.plots": ({"figure.savefig"}, "bytes in memory"),
    "run.measure": ({"torch.save"}, "bytes in memory"),
    "sweeps.start": ({"Ledger.open"}, "opens through `append`"),
    "trackers.mlflow": ({"outputs.mkdir"}, "the user's outputs/"),
    "training.inert": ({"torch.load"}, "an open file"),
    "training.archive": ({"torch.load", "torch.save", "zipfile.ZipFile"}, "open files, and bytes in memory"),
}


def opening_calls(tree: ast.Module) -> set[str]:
    """Return the calls in a module that open, create or remove a file by its path."""
    calls = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        owner, _, name = call.rpartition(".")
        if call == "open" or call in OF_OTHERS or name in (OF_OS if owner == "os" else ON_A_PATH if owner else ()):
            calls.add(call)
    return calls


def test_files_are_opened_by_the_functions_that_follow_no_link() -> None:
    found = {name: calls for name, tree in trees().items() if name not in SAFE and (calls := opening_calls(tree))}
    assert found == {name: calls for name, (calls, _) in ALLOWED.items()}
