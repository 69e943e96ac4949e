-- Schemas, roles and the rights that go with them.
--
-- prom_api      public functions; ps_tag: the operators inside labels ? ('key' == 'value')
-- prom_metric   a view per metric: samples;   prom_series: a view per metric: its series
-- prom_info     what is stored, for people
-- prom_data     reserved for per-metric names; nothing of ours may stand in a metric's way there
-- _prom_catalog tables and functions behind it all;  _prom_data: the blocks;  _prom_ext: C functions

CREATE SCHEMA prom_api;
CREATE SCHEMA ps_tag;
CREATE SCHEMA prom_metric;
CREATE SCHEMA prom_series;
CREATE SCHEMA prom_info;
CREATE SCHEMA prom_data;
CREATE SCHEMA _prom_catalog;
CREATE SCHEMA _prom_data;
CREATE SCHEMA _prom_ext;
