// Command shed-agent is PID 1 of a machine. Invariant: it is wiring; the order
// of things is run's, and everything it calls lives in package agent and below.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/toolshed-cloud/shed/agent/boot"
	"github.com/toolshed-cloud/shed/agent/supervise"
	"github.com/toolshed-cloud/shed/agent/update"
)

func main() {
	supervise.Confine()
	if os.Getpid() != 1 {
		os.Stderr.WriteString("shed-agent: it is the first process of a machine and nothing else\nhint: boot an image made by 'shed image build'\n") //nolint:errcheck // nowhere to say so
		os.Exit(2)
	}
	log := newLog()
	log.Info("start")
	err := run(context.Background(), log)
	if errors.Is(err, update.ErrRestart) {
		log.Warn("machine starts anew", zap.Error(err))
		log.Error("restart", zap.Error(errors.Join(log.Sync(), boot.Restart())))
	} else if err != nil {
		log.Error("machine stops", zap.Error(err))
	}
	log.Error("power off", zap.Error(errors.Join(log.Sync(), boot.PowerOff())))
}

// newLog writes JSON lines to the console, which is all the machine shows.
func newLog() *zap.Logger {
	config := zap.NewProductionEncoderConfig()
	config.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), os.Stderr, zap.InfoLevel))
}

var random = rand.Reader
