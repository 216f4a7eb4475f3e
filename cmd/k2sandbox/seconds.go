package main

import (
	"errors"
	"strconv"
	"time"
)

// seconds is a flag's length of time: a number of seconds, or as in 1m30s.
type seconds time.Duration

func (s *seconds) String() string {
	if *s == 0 {
		return ""
	}
	return time.Duration(*s).String()
}

func (s *seconds) Type() string { return "duration" }

func (s *seconds) Set(text string) error {
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("want a number of seconds, or a duration as in 1m30s")
	}
	*s = seconds(d)
	return nil
}
