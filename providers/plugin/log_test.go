package plugin

import (
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestLogOfTheLibraryArrivesInOurs(t *testing.T) {
	core, seen := observer.New(zapcore.InfoLevel)
	log := HCLogger(zap.New(core)).Named("plugin").With("pid", 7)
	log.Warn("odd", "key", "value", "alone")
	log.Debug("not for this level")
	log.Log(hclog.Off, "nor this")
	entries := seen.All()
	if len(entries) != 1 {
		t.Fatalf("%d entries, want 1", len(entries))
	}
	got := entries[0]
	fields := got.ContextMap()
	if got.Level != zapcore.WarnLevel || got.LoggerName != "plugin" || got.Message != "odd" ||
		fields["pid"] != int64(7) || fields["key"] != "value" || fields["extra"] != "alone" {
		t.Errorf("got %+v with %v", got, fields)
	}
	if level := log.GetLevel(); level != hclog.Info {
		t.Errorf("level is %s", level)
	}
}
