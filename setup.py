from pathlib import Path
from runpy import run_path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
README = HERE / "README.md"

setup(
    name="tap-fullstory",
    # Run as a file: importing the package would need its dependencies before they are installed.
    version=run_path(str(HERE / "tap_fullstory" / "version.py"))["__version__"],
    description="Singer tap for FullStory's Data Export: one record for each captured event",
    long_description=README.read_text(encoding="utf-8") if README.exists() else "",
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
        "Topic :: Database",
        "Typing :: Typed",
    ],
    project_urls={
        "FullStory Data Export": "https://developer.fullstory.com/",
        "Singer": "https://www.singer.io/",
    },
    python_requires=">=3.10",
    packages=find_packages(include=["tap_fullstory", "tap_fullstory.*"]),
    package_data={"tap_fullstory": ["py.typed", "*.pyi", "schemas/*.json"]},
    # Makes records several times as fast; where it does not compile, the tap does without. One
    # wheel serves every Python from 3.10 on.
    ext_modules=[
        Extension(
            "tap_fullstory._native",
            ["tap_fullstory/_native.c"],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
    # Exact versions, as the other taps of singer-io have them: what was tested is what runs.
    install_requires=[
        "backoff==2.2.1",
        "isal==1.9.1",
        "msgspec==0.22.0",
        "requests==2.34.2",
        "singer-python==6.8.0",
        "tqdm==4.70.1",
    ],
    extras_require={
        "dev": [
            "build==1.6.1",
            # The last one that runs on Python 3.10.
            "hypothesis==6.168.5",
            "mypy==2.4.1",
            "pytest==9.2.0",
            "requests-mock==1.12.1",
            "ruff==0.17.6",
            "types-requests==2.33.0.20261030",
        ],
    },
    entry_points={"console_scripts": ["tap-fullstory=tap_fullstory:main"]},
)
