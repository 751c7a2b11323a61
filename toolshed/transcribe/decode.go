package transcribe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/upstream"
)

// sampleRate is what the engine on this machine hears, one channel of 16-bit
// samples.
const sampleRate = 16_000

// maxSamples bounds what audio may say when it is unpacked: four hours.
const maxSamples = 4 * 3600 * sampleRate

// decoder makes samples of audio.
type decoder struct {
	// ffmpeg is the program's path; without it WAV of the right form is taken
	// alone.
	ffmpeg string
}

// samples are 16-bit little-endian, one channel. The error is ErrAudio, a
// *upstream.RequestError where the program is missing, or ctx's.
func (d decoder) samples(ctx context.Context, a Audio) ([]byte, error) {
	if Types[a.MediaType] == "wav" {
		if pcm, ok := plainWAV(a.Bytes); ok {
			return pcm, nil
		}
	}
	if d.ffmpeg == "" {
		return nil, upstream.Refuse("content-type",
			"without ffmpeg this engine hears WAV of one channel of 16 bits at 16 kHz alone")
	}
	return d.convert(ctx, a)
}

func (d decoder) convert(ctx context.Context, a Audio) ([]byte, error) {
	// It reads and writes pipes and nothing else: a playlist could name files
	// and addresses.
	cmd := exec.CommandContext(ctx, d.ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "pipe",
		"-format_whitelist", "wav,mp3,ogg,matroska,webm", "-threads", "1", "-i", "pipe:0", "-map", "0:a:0", "-vn",
		"-t", fmt.Sprint(maxSamples/sampleRate), "-ac", "1", "-ar", fmt.Sprint(sampleRate), "-f", "s16le", "pipe:1")
	cmd.Env = []string{}
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(a.Bytes)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	var exit *exec.ExitError
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &exit):
		return nil, fmt.Errorf("%w: %.200s", ErrAudio, bytes.TrimSpace(complaint.Bytes()))
	case err != nil:
		return nil, fmt.Errorf("decoding the audio: %w", err)
	case out.Len() == 0:
		return nil, fmt.Errorf("%w: it has no sound", ErrAudio)
	}
	return out.Bytes(), nil
}

// plainWAV are the samples of a file that needs no decoding: PCM, one channel,
// 16 bits, 16 kHz (Multimedia Programming Interface and Data Specifications 1.0,
// "WAVE"). ok is false for every other.
func plainWAV(b []byte) (pcm []byte, ok bool) {
	const riffHeader, chunkHeader = 12, 8
	if len(b) < riffHeader || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, false
	}
	plain := false
	for rest := b[riffHeader:]; len(rest) >= chunkHeader; {
		name, size := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:]))
		body := rest[chunkHeader:]
		// A stream's writer may not have known the size.
		body = body[:min(size, int64(len(body)))]
		switch name {
		case "fmt ":
			plain = isPlain(body)
		case "data":
			return body[:len(body)&^1], plain && len(body) > 1
		}
		rest = rest[min(int64(len(rest)), chunkHeader+size+size&1):]
	}
	return nil, false
}

func isPlain(format []byte) bool {
	const pcm = 1
	return len(format) >= 16 && binary.LittleEndian.Uint16(format) == pcm && binary.LittleEndian.Uint16(format[2:]) == 1 &&
		binary.LittleEndian.Uint32(format[4:]) == sampleRate && binary.LittleEndian.Uint16(format[14:]) == 16
}
