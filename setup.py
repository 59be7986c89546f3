"""Package metadata, read from settings.ini (the only place where it is written)."""
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

config = ConfigParser(delimiters=["="], interpolation=None)
config.read("settings.ini", encoding="utf-8")
cfg = {k: v.replace("%(user)s", config["DEFAULT"]["user"]).replace("%(repo)s", config["DEFAULT"]["repo"])
       for k, v in config["DEFAULT"].items()}
minor = int(cfg["min_python"].split(".")[1])

setup(
    name=cfg["lib_name"], version=cfg["version"], description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"), long_description_content_type="text/markdown",
    author=cfg["author"], author_email=cfg["author_email"], url=cfg["git_url"], license="Apache-2.0",
    keywords=cfg["keywords"].split(), python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["hyperlex_nb", "hyperlex_nb.*"]), include_package_data=True, zip_safe=False,
    install_requires=cfg["requirements"].split(),
    extras_require={k.removesuffix("_requirements"): v.split() for k, v in cfg.items() if k.endswith("_requirements")},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    classifiers=["Development Status :: 3 - Alpha", "Intended Audience :: Developers", "Intended Audience :: Science/Research",
                 "Natural Language :: Russian"] + [f"Programming Language :: Python :: 3.{n}" for n in range(minor, 14)],
)
