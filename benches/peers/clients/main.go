// Loads that the peers' own tools do not have, each with the peer's own Go client: many streams, fan-out, reading a
// stream from its beginning. Prints one JSON object.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Sample is what a load found.
type Sample struct {
	Records int     `json:"records"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_us,omitempty"`
	P99     float64 `json:"p99_us,omitempty"`
}

func main() {
	if len(os.Args) < 4 {
		fail(fmt.Errorf("usage: clients LOAD ADDRESS NAME NUMBER..."))
	}
	numbers := make([]int, 0, 5)
	for _, text := range os.Args[4:] {
		number, err := strconv.Atoi(text)
		fail(err)
		numbers = append(numbers, number)
	}
	address, name := os.Args[2], os.Args[3]
	loads := map[string]struct {
		numbers int
		run     func(address, name string, n []int) (Sample, error)
	}{
		"nats-create":  {1, natsCreate},
		"nats-append":  {6, natsAppend},
		"nats-fanout":  {4, natsFanOut},
		"redis-fanout": {4, redisFanOut},
		"redis-read":   {1, redisRead},
	}
	load, known := loads[os.Args[1]]
	if !known || len(numbers) != load.numbers {
		fail(fmt.Errorf("no load %q with %d numbers", os.Args[1], len(numbers)))
	}
	sample, err := load.run(address, name, numbers)
	fail(err)
	fail(json.NewEncoder(os.Stdout).Encode(sample))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fanOut sends records at a rate while readers take them; latency counts from when each was due.
func fanOut(
	readers, rate, size, records int,
	read func(reader int, ready func(), seen func(value []byte) bool) error,
	send func(value []byte) error,
) (Sample, error) {
	latency := make([][]float64, readers)
	var ready, done sync.WaitGroup
	ready.Add(readers)
	errors := make(chan error, readers)
	for reader := range readers {
		done.Add(1)
		go func() {
			defer done.Done()
			seen := func(value []byte) bool {
				due := int64(binary.BigEndian.Uint64(value))
				latency[reader] = append(latency[reader], float64(time.Now().UnixNano()-due)/1e3)
				return len(latency[reader]) < records
			}
			if err := read(reader, ready.Done, seen); err != nil {
				errors <- err
			}
		}()
	}
	ready.Wait()
	began := time.Now()
	for number := range records {
		due := began.Add(time.Duration(float64(number) / float64(rate) * 1e9))
		time.Sleep(time.Until(due))
		value := make([]byte, size)
		binary.BigEndian.PutUint64(value, uint64(due.UnixNano()))
		if err := send(value); err != nil {
			return Sample{}, err
		}
	}
	done.Wait()
	select {
	case err := <-errors:
		return Sample{}, err
	default:
	}
	seconds := time.Since(began).Seconds()
	all := slices.Concat(latency...)
	slices.Sort(all)
	return Sample{len(all), seconds, all[len(all)/2], all[len(all)*99/100]}, nil
}
