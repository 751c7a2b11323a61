package aws

import (
	"context"
	"encoding/base64"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws/refusal"
)

// consoleTick is how often a console that is followed is asked for.
const consoleTick = 5 * time.Second

// Console answers the last 64 KiB that EC2 keeps. Followed, it goes on with what
// has come since, as far as that is still there.
func (p *Provider) Console(ctx context.Context, id providers.MachineID, follow bool) (io.ReadCloser, error) {
	if err := checkMachine(id); err != nil {
		return nil, err
	}
	s, err := p.ready()
	if err != nil {
		return nil, err
	}
	f, err := p.find(ctx, s, id)
	if err != nil {
		return nil, err
	}
	instance := aws.ToString(f.instances[0].InstanceId)
	text, err := s.console(ctx, instance)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(s.copyConsole(ctx, w, instance, text, follow)) }()
	return r, nil
}

func (s *site) console(ctx context.Context, instance string) ([]byte, error) {
	out, err := s.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: aws.String(instance), Latest: aws.Bool(true)})
	if err != nil {
		return nil, refusal.From("asking for the console", err, refusal.Repeatable)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return nil, providers.Errorf(providers.CodeInternal, "reading the console: %s", err)
	}
	return text, nil
}

// copyConsole ends where its reader or its caller does.
func (s *site) copyConsole(ctx context.Context, w io.Writer, instance string, text []byte, follow bool) error {
	if _, err := w.Write(text); err != nil || !follow {
		return err
	}
	tick := time.NewTicker(consoleTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		now, err := s.console(ctx, instance)
		if err != nil {
			return err
		}
		if _, err := w.Write(since(text, now)); err != nil {
			return err
		}
		text = now
	}
}

// since is what of now comes after all of before: of a window that has moved on,
// what follows the longest end of before that now begins with.
func since(before, now []byte) []byte {
	for from := max(0, len(before)-len(now)); from < len(before); from++ {
		if end := before[from:]; string(now[:len(end)]) == string(end) {
			return now[len(end):]
		}
	}
	return now
}
