"""Files for running make-map on a schedule: SLURM, cron, Kubernetes, Prefect, Airflow; each to be copied and edited."""
