package inside

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // the first picture of one
	"image/jpeg"
	"image/png"
	"io"
	"time"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // read, not written

	"github.com/k2sandbox/k2sandbox/api"
)

// Bounds of the images that are read. A picture takes its pixels' memory, in a process that shares the sandbox's.
const (
	maxPixels = 24 << 20 // of 4 bytes; less of more
	maxSide   = 1024     // pixels of what a model sees
	minSide   = 64
)

// budget is how many bytes an image may have, whose base64 has api.MaxMCPImage.
var budget = base64.StdEncoding.DecodedLen(api.MaxMCPImage) - 2

var errTooLarge = errors.New("it has too many pixels to be shown")

// shrunk is an image that fits a model's budget.
type shrunk struct {
	mime string
	data []byte
}

// size returns the width and the height of an image in pixels; 0 where it is none that can be read.
func size(raw []byte) (width, height int) {
	c, _, err := image.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return 0, 0
	}
	return c.Width, c.Height
}

// shrink returns an image of at most maxSide pixels in each direction, in at most budget bytes: itself where that
// is so already, else as PNG where that does, else as JPEG. It gives up reading at a time: codecs can be made to take
// long for few bytes.
func shrink(raw []byte, until time.Time) (shrunk, error) {
	c, format, err := image.DecodeConfig(bytes.NewReader(raw))
	if err != nil {
		return shrunk{}, fmt.Errorf("it is no image that can be read: %w", err)
	}
	if pixels := int64(c.Width) * int64(c.Height) * depth(c.ColorModel, format == "jpeg" && progressive(raw)); c.Width <= 0 || c.Height <= 0 || pixels > maxPixels {
		return shrunk{}, fmt.Errorf("%w: %d×%d", errTooLarge, c.Width, c.Height)
	}
	img, _, err := image.Decode(&hurried{bytes.NewReader(raw), until})
	if err != nil {
		return shrunk{}, fmt.Errorf("it is no image that can be read: %w", err)
	}
	if len(raw) <= budget && max(c.Width, c.Height) <= maxSide && (format == "png" || format == "jpeg") {
		return shrunk{"image/" + format, raw}, nil
	}
	return squeeze(img)
}

// depth returns how many times 4 bytes a pixel takes while it is read.
func depth(m color.Model, progressive bool) int64 {
	switch {
	case progressive:
		return 5 // a coefficient of 4 bytes and a byte for each of its samples, which are 4 at most
	case m == color.RGBA64Model || m == color.NRGBA64Model:
		return 2
	}
	return 1
}

// progressive reports whether a JPEG may be: all its coefficients are in memory then until its end is read.
// ITU-T T.81, annex B: marker segments, up to that of the frame.
func progressive(raw []byte) bool {
	for at := 2; at+4 <= len(raw) && raw[at] == 0xff; {
		switch raw[at+1] {
		case 0xc0, 0xc1: // baseline and extended sequential
			return false
		case 0xff: // fill
			at++
			continue
		}
		if raw[at+1] == 0xc2 {
			return true
		}
		at += 2 + int(binary.BigEndian.Uint16(raw[at+2:]))
	}
	return true // it is none that an encoder writes
}

// squeeze tries smaller and smaller pictures.
func squeeze(img image.Image) (shrunk, error) {
	side := min(max(img.Bounds().Dx(), img.Bounds().Dy()), maxSide)
	small := scale(img, side)
	if p, ok := asPNG(small); ok {
		return p, nil
	}
	for ; side >= minSide; side = side * 3 / 4 {
		flat := flatten(scale(small, side))
		for _, quality := range []int{80, 60} {
			var b bytes.Buffer
			if err := jpeg.Encode(&b, flat, &jpeg.Options{Quality: quality}); err != nil {
				return shrunk{}, err
			}
			if b.Len() <= budget {
				return shrunk{"image/jpeg", b.Bytes()}, nil
			}
		}
	}
	return shrunk{}, errTooLarge
}

func asPNG(img image.Image) (shrunk, bool) {
	var b bytes.Buffer
	err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, img)
	return shrunk{"image/png", b.Bytes()}, err == nil && b.Len() <= budget
}

// scale returns the image with its longer side so many pixels long, if that is longer.
func scale(img image.Image, side int) image.Image {
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	long := max(w, h)
	if long <= side {
		return img
	}
	to := image.NewRGBA(image.Rect(0, 0, max(1, w*side/long), max(1, h*side/long)))
	draw.BiLinear.Scale(to, to.Bounds(), img, img.Bounds(), draw.Src, nil)
	return to
}

// flatten puts an image on white, as JPEG has no transparency.
func flatten(img image.Image) image.Image {
	to := image.NewRGBA(image.Rect(0, 0, img.Bounds().Dx(), img.Bounds().Dy()))
	draw.Draw(to, to.Bounds(), image.White, image.Point{}, draw.Src)
	draw.Draw(to, to.Bounds(), img, img.Bounds().Min, draw.Over)
	return to
}

// hurried is a reader that fails when the time is up.
type hurried struct {
	io.Reader
	until time.Time
}

func (r *hurried) Read(p []byte) (int, error) {
	if time.Now().After(r.until) {
		return 0, errors.New("it takes too long to read")
	}
	return r.Reader.Read(p[:min(len(p), 1024)])
}
