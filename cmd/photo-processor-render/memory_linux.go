package main

import "C" // so that malloc_linux.c is linked, which does all by itself
