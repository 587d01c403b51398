/* SPDX-License-Identifier: MIT */
/* openblas_threaded.c - stands in for an OpenBLAS that starts threads of its own, in a module that must refuse it. */
int openblas_get_parallel(void);
char *openblas_get_config(void);

int openblas_get_parallel(void) { return 1; }

char *openblas_get_config(void)
{
    static char config[] = "stand-in with threads";
    return config;
}
