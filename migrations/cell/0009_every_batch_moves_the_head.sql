-- How often the head was moved. A batch that only takes or passes numbers leaves the position where it is, and yet what
-- other processes remember of the counters holds no longer: they go by this.
alter table cell_head add column moves bigint not null default 0;
