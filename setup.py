"""What the package is, and how its C extensions are built.

One wheel with the C extensions serves every Python from 3.10 on. Where nothing can be compiled,
the wheel is a py3-none-any and the tap runs without them: a wheel's name is true. With
TAP_FULLSTORY_REQUIRE_NATIVE set, a build without the C extensions fails instead.
"""

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path
from runpy import run_path

from setuptools import Extension, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

HERE = Path(__file__).parent
README = HERE / "README.md"
# Run as a file: importing the package would need its dependencies before they are installed.
VERSION = run_path(str(HERE / "tap_fullstory" / "version.py"))
REPOSITORY, SOURCE = VERSION["REPOSITORY"], VERSION["SOURCE"]
# The times of files in the wheel: with those of a clone, no two wheels would be the same.
os.environ.setdefault("SOURCE_DATE_EPOCH", "315532800")  # 1980-01-01, the earliest in a zip
NATIVE_REQUIRED = bool(os.environ.get("TAP_FULLSTORY_REQUIRE_NATIVE"))
# A free-threaded Python has no stable ABI that this extension could be built for.
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
if FREE_THREADED and NATIVE_REQUIRED:
    sys.exit("TAP_FULLSTORY_REQUIRE_NATIVE is set, and a free-threaded Python cannot build it.")


def long_description():
    """Return the README, with links that lead somewhere from the package index, too."""
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    raw = SOURCE.replace("/blob/", "/raw/")
    text = re.sub(r"(!\[[^\]]*\]\()(?![a-z]+:|#)", rf"\g<1>{raw}/", text)
    return re.sub(r"(\]\()(?![a-z]+:|#)", rf"\g<1>{SOURCE}/", text)


class BuildExtension(build_ext):
    """Builds the C extensions, or takes them out of the distribution if that fails."""

    def finalize_options(self):
        """Compile again, whatever an earlier build has left."""
        super().finalize_options()
        self.force = True

    def run(self):
        try:
            super().run()
        except (BaseError, CCompilerError) as error:
            if NATIVE_REQUIRED:
                raise
            self.warn(f"building without the C extensions, which need a C compiler: {error}")
            for extension in self.extensions:  # one of an earlier build would go into the wheel
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = self.distribution.ext_modules = []

    def get_ext_filename(self, ext_name):
        """From Python 3.15 on, the name holds the platform, and no older Python finds it."""
        return re.sub(r"\.abi3-.*\.so$", ".abi3.so", super().get_ext_filename(ext_name))


class BuildWheel(bdist_wheel):
    """Names the wheel for what was built."""

    def run(self):
        # What an earlier build has left there would go into the wheel.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        self.run_command("build")
        if not self.distribution.ext_modules:
            self.root_is_pure = True
        super().run()


setup(
    name="tap-fullstory",
    version=VERSION["__version__"],
    url=REPOSITORY,
    description="Singer tap for FullStory's Data Export: one record for each captured event",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords=["singer", "tap", "fullstory", "etl", "data export", "meltano", "stitch"],
    classifiers=[
        "Development Status :: 5 - Production/Stable",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Information Technology",
        "Operating System :: MacOS",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Programming Language :: Python :: 3.15",
        "Topic :: Database",
        "Typing :: Typed",
    ],
    project_urls={
        "Documentation": f"{SOURCE}/README.md",
        "Changelog": f"{SOURCE}/CHANGELOG.md",
        "Source": REPOSITORY,
        "Issues": f"{REPOSITORY}/issues",
        "FullStory Data Export": "https://developer.fullstory.com/",
        "Singer": "https://www.singer.io/",
    },
    python_requires=">=3.10",
    packages=find_packages(include=["tap_fullstory", "tap_fullstory.*"]),
    package_data={"tap_fullstory": ["py.typed", "output/*.pyi", "records/*.pyi", "schemas/*.json"]},
    # Makes records several times as fast.
    ext_modules=[]
    if FREE_THREADED
    else [
        Extension(
            f"tap_fullstory.{folder}.{name}",
            [f"tap_fullstory/{folder}/{name}.c"],
            py_limited_api=True,
            # Debugging symbols hold the folder that it was compiled in.
            extra_compile_args=["-g0"],
        )
        for folder, name in (("records", "_native"), ("output", "_columns"))
    ],
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp310"}},
    cmdclass={"build_ext": BuildExtension, "bdist_wheel": BuildWheel},
    # Exact versions, as the other taps of singer-io have them: what was tested is what runs.
    install_requires=[
        "backoff==2.2.1",
        "isal==1.9.1",
        "msgspec==0.22.0",
        "requests==2.34.2",
        "singer-python==6.8.0",
        "tqdm==4.70.1",
        "urllib3==2.8.0",
    ],
    extras_require={
        # Files of columns: the last release for each Python, where there is one.
        "arrow": [
            "pyarrow==25.0.1; python_version < '3.11'",
            "pyarrow==26.0.1; python_version >= '3.11'",
        ],
        "dev": [
            "build==1.6.1",
            # These two are the last that run on Python 3.10.
            "coverage==7.16.2",
            "polars==2.0.0; python_version < '3.11'",
            "polars==2.1.0; python_version >= '3.11' and python_version < '3.15'",
            "pyarrow==25.0.1; python_version < '3.11'",
            "pyarrow==26.0.1; python_version >= '3.11' and python_version < '3.15'",
            "hypothesis==6.168.5",
            "mypy==2.4.1",
            "pytest==9.2.0",
            "pytest-xdist==3.8.0",
            "requests-mock==1.12.1",
            "ruff==0.17.6",
            "setuptools==84.2.1",
            "types-requests==2.33.0.20261030",
        ],
    },
    entry_points={"console_scripts": ["tap-fullstory=tap_fullstory:main"]},
)
