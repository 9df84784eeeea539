//! Checks everything in `deploy`, `helm` and `k8s` with the tools that read those files in production.

mod compose;
