package main

import "context"

func benchBoot(ctx context.Context, p place) error { return nil }
