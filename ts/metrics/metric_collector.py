"""Prints the metrics of this host, one a line: `python ts/metrics/metric_collector.py --gpu 1`."""

import argparse
import logging
import sys
import time

SAMPLE_S = 0.2


def main():
    from ts.metrics import system_metrics
    from ts.metrics.process_memory_metric import check_process_mem_usage

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu", type=int, default=0, metavar="N", help="how many GPUs to look at")
    arguments = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO)
    system_metrics.cpu_utilization()  # psutil measures the load since the call before
    system_metrics.take()
    time.sleep(SAMPLE_S)
    system_metrics.collect_all(system_metrics, arguments.gpu)
    if not sys.stdin.isatty():
        check_process_mem_usage(sys.stdin)


if __name__ == "__main__":
    main()
