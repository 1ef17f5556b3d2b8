# mpi.sh PROGRAM STEPS: four ranks; all that Open MPI leaves lies in a hidden folder here
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 TMPDIR=$PWD/.session
mkdir -p "$TMPDIR"
exec mpirun --oversubscribe -np 4 "$@"
