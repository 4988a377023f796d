module many-logs

go 1.25

require github.com/klauspost/compress v1.19.2
