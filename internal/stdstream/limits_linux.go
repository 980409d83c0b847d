package stdstream

// maxWrite bounds one write in bytes. A pipe that is ready takes as much without blocking:
// PIPE_BUF, which also keeps lines whole that several processes write to one pipe.
const maxWrite = 4096
