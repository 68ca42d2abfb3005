"""A flow that makes a report, served as a deployment: `reports/nightly`."""

import time

from prefect import flow, get_run_logger


@flow(name="reports")
def reports(region: str = "eu", seconds: float = 2, fail: bool = False) -> int:
    """Take a while, and say how many rows there are."""
    logger = get_run_logger()
    logger.info("reading %s", region)
    time.sleep(seconds)
    if fail:
        raise RuntimeError(f"the region {region} is away")
    logger.info("7 rows")
    return 7


if __name__ == "__main__":
    reports.serve(name="nightly", limit=2)
