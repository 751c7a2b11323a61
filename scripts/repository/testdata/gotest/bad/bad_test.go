package bad

import "testing"

func TestPasses(*testing.T) {}

func TestFails(t *testing.T) { t.Error("what went wrong") }
